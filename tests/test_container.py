"""The container's files keep their promises, and the pinned versions agree in all files. CI builds the image itself."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from recon_lib.coarse.reconviagen import upstream
from recon_lib.machine import doctor
from recon_lib.weights import store

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALLER = {"setuptools"}  # the images install the library with it


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "constraints" / f"{name}.txt").read_text().splitlines()
    return {canonical(k): v for k, _, v in (line.partition("==") for line in lines if not line.startswith("#"))}


def extra(name: str) -> dict[str, str]:
    """Requirement by package, with those of extras of our own that it takes in."""
    found = {}
    for requirement in PROJECT["optional-dependencies"][name]:
        inner = re.fullmatch(r"recon-lib\[([\w-]+)\]", requirement)
        found |= extra(inner[1]) if inner else {canonical(re.match(r"[\w.-]+", requirement)[0]): requirement}
    return found


def base() -> set[str]:
    return {canonical(re.match(r"[\w.-]+", requirement)[0]) for requirement in PROJECT["dependencies"]}


def argument(name: str) -> str:
    return re.search(rf'^ARG {name}="?([^"\n]*)', DOCKERFILE, re.MULTILINE)[1]


def stage(name: str) -> str:
    return re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)[1]


def tool(name: str) -> str:
    found = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -c constraints/cpu.txt -e '.[dev]'")
    return found


def passes(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# One set of versions


@pytest.mark.parametrize(
    "name, extras", [("cpu", ("cpu", "reconviagen-cpu", "dev")), ("gpu", ("gpu",))], ids=["cpu", "gpu"]
)
def test_a_constraint_set_pins_every_package_that_it_is_for(name, extras):
    needed = base() | INSTALLER | {package for e in extras for package in extra(e)}
    assert needed - set(pins(name)) == set()


def test_the_sets_differ_only_where_cuda_12_1_asks_for_it():
    cpu, gpu = pins("cpu"), pins("gpu")
    differing = {name for name in set(cpu) & set(gpu) if cpu[name] != gpu[name]}
    assert differing == {"torch", "torchvision", "numpy", "opencv-python-headless", "setuptools"}
    assert (cpu["torch"], gpu["torch"]) == ("2.13.0", "2.4.1")
    assert int(gpu["numpy"].split(".")[0]) < 2, "cumm-cu120 0.4.11 crashes on arrays of numpy 2"


def test_the_extras_hold_what_the_adapter_asks_for():
    always = {canonical(re.split(r"[<>=;\[ ]", package)[0]) for package in PROJECT["dependencies"]}
    for name in ("gpu", "reconviagen-cpu"):
        packages = extra(name)
        spconv = next(package for package in packages if package.startswith("spconv"))
        assert {canonical(package) for package in upstream.PACKAGES} - {"spconv"} <= set(packages) | always
        assert spconv == {"gpu": "spconv-cu120", "reconviagen-cpu": "spconv"}[name]


def test_utils3d_of_pypi_is_nowhere():
    places = (DOCKERFILE, str(CONDA), str(PROJECT), *pins("cpu"), *pins("gpu"))
    assert not [place for place in places if "utils3d" in place]


def test_all_places_name_the_same_python_cuda_and_torch():
    gpu = pins("gpu")
    assert "python=3.11" in CONDA["dependencies"] and "python3.11" in stage("python-cuda")
    assert "python_version < '3.12'" in extra("gpu")["spconv-cu120"]
    assert PROJECT["requires-python"] == ">=3.11,<3.13"
    assert argument("CPU_BASE").startswith("python:3.11.")
    cuda = re.search(r"cuda:(\d+\.\d+\.\d+)-devel", argument("GPU_BASE"))[1]
    labels = {re.search(r"cuda-(\d+\.\d+\.\d+)::", d)[1] for d in CONDA["dependencies"] if "::" in d}
    assert labels == {cuda} and gpu["nvidia-cuda-runtime-cu12"].rpartition(".")[0] == cuda.rpartition(".")[0]
    wheel = argument("FLASH_ATTN")
    assert f"cu12torch{gpu['torch'].rpartition('.')[0]}cxx11abiFALSE-cp311" in wheel


def test_conda_installs_what_the_image_does():
    pip = next(d["pip"] for d in CONDA["dependencies"] if isinstance(d, dict))
    assert pip == ["-c constraints/gpu.txt", "-e .[gpu]", argument("FLASH_ATTN")]
    environment = dict(re.findall(r"([A-Z_]+)=(\S+)", stage("gpu")))
    assert {name: environment[name] for name in CONDA["variables"]} == {
        k: str(v) for k, v in CONDA["variables"].items()
    }


def test_the_doctor_looks_for_what_the_image_holds():
    assert argument("RECONVIAGEN_COMMIT") == upstream.COMMIT == doctor.PINNED_COMMIT
    tag = argument("NVDIFFRAST_TAG")
    assert f"nvdiffrast.git@{tag}" in (ROOT / "environment.yml").read_text()
    assert f"nvdiffrast.git@{tag}" in (ROOT / "recon_lib" / "machine" / "doctor.py").read_text()


# The images


def test_every_base_image_has_a_tag_that_is_not_latest():
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert len(stages) == DOCKERFILE.count("\nFROM ")
    named = {"scratch"}
    for image, name in stages:
        image = argument(image[2:-1]) if image.startswith("${") else image
        assert image in named or re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", image), image
        named.add(name)
    assert "latest" not in DOCKERFILE


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_an_image_runs_as_a_user_who_is_not_root(name):
    lines = stage(name).splitlines()
    user = max(i for i, line in enumerate(lines) if line == "USER ${RECON_UID}:${RECON_GID}")
    assert not [line for line in lines[user + 1 :] if line.startswith(("RUN", "USER", "COPY", "ADD"))]
    assert argument("RECON_UID") == argument("RECON_GID") == "1000"
    assert "STOPSIGNAL SIGINT" in lines and f"RECON_PURPOSE={name}" in stage(name)


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_packages_are_installed_before_the_sources_arrive(name):
    lines = stage(name)
    assert lines.index("COPY pyproject.toml") < lines.index("pip check") < lines.index("COPY --from=workbench")
    for command in re.findall(r"pip install [^&\n]*", DOCKERFILE):
        assert "--no-cache-dir" in command, command
        assert "-c constraints/" in command or "--no-deps" in command, command


def test_the_gpu_image_is_built_for_the_cards_it_is_for():
    assert argument("TORCH_CUDA_ARCH_LIST").split() == ["7.0", "7.5", "8.0", "8.6", "8.9", "9.0"]
    for setting in ("SPCONV_ALGO=native", "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"):
        assert setting in stage("gpu")
    assert "RECONVIAGEN_ROOT=/opt/reconviagen" in stage("gpu") and "/LICENSE" in stage("reconviagen")


def test_no_weights_runs_or_history_reach_an_image():
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[0] == "*" and not let_in & {"weights", "outputs", ".git", ".venv", ".env"}
    copied = set(re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE))
    assert {path.split("/")[0] for paths in copied for path in paths.split()} == let_in
    assert "weights fetch" not in DOCKERFILE and "huggingface.co" not in DOCKERFILE
    assert not [need.id for need in store.NEEDED if need.id in DOCKERFILE]


# Compose


def test_only_the_gpu_lab_starts_by_itself():
    services = COMPOSE["services"]
    assert {name: service.get("profiles") for name, service in services.items()} == {
        "lab": None, "lab-cpu": ["cpu"], "run": ["run"],
    }  # fmt: skip
    assert not [name for name, service in services.items() if "depends_on" in service]


@pytest.mark.parametrize("name", ["lab", "lab-cpu"])
def test_a_lab_is_published_on_this_machine_alone_and_watched(name):
    lab = COMPOSE["services"][name]
    assert lab["ports"] == ["127.0.0.1:${RECON_PORT:-8888}:8888"] and "network_mode" not in lab
    assert "http://127.0.0.1:8888/api'" in lab["healthcheck"]["test"][-1]
    assert lab["restart"] == "on-failure:3"


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_stops_gently_and_takes_no_more_than_its_share(name):
    service = COMPOSE["services"][name]
    assert service["init"] is True and service["stop_signal"] == "SIGINT" and service["shm_size"] == "8gb"
    assert service["user"] == "${RECON_UID:-1000}:${RECON_GID:-1000}"
    assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_work_survives_the_container_and_weights_the_image(name):
    targets = dict(v.rsplit(":/workbench/", 1) for v in COMPOSE["services"][name]["volumes"])
    assert targets == {
        "./notebooks": "notebooks", "./params": "params", "./outputs": "outputs", "weights": "weights",
        "${RECON_PHOTOS:-./samples}": "photos:ro",
    }  # fmt: skip
    assert "weights" in COMPOSE["volumes"]


def test_the_gpu_is_reserved_where_it_is_used_only():
    reserved = {name: s["deploy"]["resources"].get("reservations") for name, s in COMPOSE["services"].items()}
    gpu = {"devices": [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]}
    assert reserved == {"lab": gpu, "run": gpu, "lab-cpu": None}
    built = {name: service["build"]["target"] for name, service in COMPOSE["services"].items()}
    assert built == {"lab": "gpu", "run": "gpu", "lab-cpu": "cpu"}


def served(monkeypatch, token: str = "", file: str = ""):
    """Who guards a server with the container's settings."""
    from jupyter_server.auth import IdentityProvider
    from traitlets.config import Config

    monkeypatch.setenv("JUPYTER_TOKEN", token)
    monkeypatch.setenv("JUPYTER_TOKEN_FILE", file)
    config = Config()
    source = (ROOT / "container" / "jupyter_server_config.py").read_text()
    exec(source, {"get_config": lambda: config, "load_subconfig": lambda *args, **kwargs: None})
    assert config.ServerApp.allow_remote_access is False
    return IdentityProvider(config=config)


@pytest.mark.parametrize("empty", ["", "   ", "\n"])
def test_an_empty_token_is_none_and_the_server_makes_one(monkeypatch, empty):
    identity = served(monkeypatch, empty)
    assert len(identity.token) == 48 and identity.token_generated


def test_a_given_token_holds_and_a_file_is_read_without_its_last_line_break(monkeypatch, tmp_path):
    secret = tmp_path / "token"
    secret.write_text("of-the-file\n")
    assert served(monkeypatch, "given").token == "given"
    assert served(monkeypatch, file=str(secret)).token == "of-the-file"


def test_an_empty_token_file_stops_the_server(monkeypatch, tmp_path):
    secret = tmp_path / "token"
    secret.write_text("\n")
    with pytest.raises(SystemExit, match="empty, needed a token"):
        served(monkeypatch, file=str(secret))


def test_no_file_switches_the_token_off():
    for path in ("docker-compose.yml", "Dockerfile", "container/start", "container/jupyter_server_config.py"):
        text = (ROOT / path).read_text()
        assert not re.search(r"""token\s*=\s*(''|"")|disable_check_xsrf|allow_root|allow-root|password""", text), path


# What others say about the files


@pytest.mark.parametrize(
    "schema, path",
    [("vendor.compose-spec", "docker-compose.yml"), ("vendor.github-workflows", ".github/workflows/ci.yml")],
)
def test_a_file_follows_its_public_schema(schema, path):
    passes(tool("check-jsonschema"), "--builtin-schema", schema, path)


def test_the_dockerfile_is_without_lint():
    passes(tool("hadolint"), "Dockerfile")


def test_the_shell_scripts_are_without_lint():
    passes(tool("shellcheck"), ".ci/run", "container/start")


def test_actions_are_pinned_by_commit():
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert used and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name) for name in used)
    assert "run: .ci/run" in text and '["3.11", "3.12"]' in text
