// One photo on which a person draws a box, strokes, and points; all places are shares of its width and height.
const COLOURS = { box: "#ffb000", object: "#22dd66", background: "#ff3355", first: "#ffb000", second: "#00c8ff" };

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  canvas.className = "recon-marks";
  canvas.style.cssText = "max-width: 100%; cursor: crosshair; touch-action: none; border: 1px solid #ccc";
  el.append(canvas);
  const pen = canvas.getContext("2d");
  let image = null, line = null;

  function path(points) {
    pen.beginPath();
    points.forEach(([x, y], i) => pen[i ? "lineTo" : "moveTo"](x * canvas.width, y * canvas.height));
    pen.stroke();
  }

  function draw() {
    if (!image) return;
    pen.drawImage(image, 0, 0);
    const { box, strokes = [], points = {} } = model.get("marks");
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = 3;
    const [a, b] = line && model.get("tool") === "box" ? [line[0], line[line.length - 1]] : [];
    const shown = a ? [a[0], a[1], b[0], b[1]] : box;
    pen.strokeStyle = COLOURS.box;
    if (shown) path([[shown[0], shown[1]], [shown[2], shown[1]], [shown[2], shown[3]], [shown[0], shown[3]], [shown[0], shown[1]]]);
    pen.lineWidth = 6;
    for (const stroke of strokes) { pen.strokeStyle = COLOURS[stroke.kind]; path(stroke.points); }
    if (line && !a) { pen.strokeStyle = COLOURS[model.get("tool")]; path(line); }
    pen.lineWidth = 2;
    for (const [name, [x, y]] of Object.entries(points)) {
      pen.strokeStyle = COLOURS[name];
      path([[x - 0.02, y], [x + 0.02, y]]);
      path([[x, y - 0.02], [x, y + 0.02]]);
    }
  }

  function at(event) {
    const place = canvas.getBoundingClientRect(), share = (v) => Math.min(1, Math.max(0, v));
    return [share((event.clientX - place.left) / place.width), share((event.clientY - place.top) / place.height)];
  }

  function end() {
    if (!line) return;
    const marks = structuredClone(model.get("marks")), tool = model.get("tool"), first = line[0], last = line[line.length - 1];
    if (tool === "box") marks.box = [0, 1].map((k) => Math.min(first[k], last[k])).concat([0, 1].map((k) => Math.max(first[k], last[k])));
    else if (tool === "first" || tool === "second") marks.points = { ...marks.points, [tool]: last };
    else marks.strokes = [...(marks.strokes ?? []), { kind: tool, points: line }];
    line = null;
    model.set("marks", marks);
    model.save_changes();
    draw();
  }

  async function load() {
    image = await createImageBitmap(new Blob([model.get("picture")]));
    [canvas.width, canvas.height] = [image.width, image.height];
    draw();
  }

  canvas.addEventListener("pointerdown", (event) => { line = [at(event)]; canvas.setPointerCapture(event.pointerId); draw(); });
  canvas.addEventListener("pointermove", (event) => { if (line) { line.push(at(event)); draw(); } });
  canvas.addEventListener("pointerup", end);
  model.on("change:picture", load);
  model.on("change:marks", draw);
  if (model.get("picture").byteLength) load();
}

export default { render };
