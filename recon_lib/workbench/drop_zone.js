// A place to drop files. Sizes are checked before anything is sent; files go one after another in pieces, each answered by Python.
const PIECE = 1 << 20;

function render({ model, el }) {
  el.innerHTML = `<div class="recon-drop"><label>Drop photos, their cameras, or a .zip of a folder here, or choose
    <input type="file" multiple></label><div class="recon-drop-list"></div></div>`;
  const input = el.querySelector("input"), list = el.querySelector(".recon-drop-list");
  el.firstChild.style.cssText = "border: 2px dashed #aaa; border-radius: 6px; padding: 8px 10px; line-height: 1.5";
  list.style.cssText = "max-height: 120px; overflow: auto; font-size: 12px";
  const waiting = {}, queue = [];
  let busy = false, answer = null;

  function say(name, text, colour) {
    const row = waiting[name] ?? list.appendChild(document.createElement("div"));
    waiting[name] = row;
    row.textContent = `${name}: ${text}`;
    row.style.color = colour;
  }

  model.on("msg:custom", (message) => answer && message.name === answer.name && answer.done(message));

  function ask(content, buffers = []) {
    return new Promise((done) => {
      answer = { name: content.name, done };
      model.send(content, undefined, buffers);
    });
  }

  async function send(file) {
    const megabytes = file.size / 1e6, most = model.get(/\.zip$/i.test(file.name) ? "most_total_mb" : "most_file_mb");
    if (megabytes > most) return say(file.name, `${megabytes.toFixed(0)} MB, needed at most ${most} MB`, "#a33");
    let got = await ask({ kind: "begin", name: file.name, size: file.size });
    for (let at = 0; at < file.size && !got.error; at += PIECE) {
      say(file.name, `${Math.round((100 * at) / file.size)} %`, "#555");
      const data = await file.slice(at, at + PIECE).arrayBuffer();
      got = await ask({ kind: "piece", name: file.name }, [data]);
    }
    if (!got.error) got = await ask({ kind: "end", name: file.name });
    say(file.name, got.error ?? "taken", got.error ? "#a33" : "#373");
  }

  async function work(files) {
    queue.push(...files);
    if (busy) return;
    busy = true;
    while (queue.length) await send(queue.shift());
    busy = false;
  }

  input.addEventListener("change", () => work([...input.files]));
  el.addEventListener("dragover", (event) => event.preventDefault());
  el.addEventListener("drop", (event) => { event.preventDefault(); event.stopPropagation(); work([...event.dataTransfer.files]); });
}

export default { render };
