"""``snnlib doctor``: what is well, each known fault with its cure, and what it need not load."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import snnlib
from snnlib.cli import doctor
from snnlib.cli.main import main
from snnlib.records import environment

SOURCE = Path(snnlib.__file__).parents[1]


def run_doctor(*first_on_the_path, **variables):
    """``snnlib doctor`` in a process of its own, with these folders before all packages."""
    paths = os.pathsep.join(map(str, [*first_on_the_path, SOURCE]))
    return subprocess.run(
        [sys.executable, "-m", "snnlib", "doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **variables},
    )


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package of a few lines: files and the list of files, as pip leaves them."""

    def install(name, version, files, needs=(), lost=()):
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        wanted = "".join(f"Requires-Dist: {need}\n" for need in needs)
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n{wanted}")
        (info / "RECORD").write_text(
            "".join(f"{name}/{file},,{len(text)}\n" for file, text in files.items())
        )
        for file, text in files.items():
            place = tmp_path / name / file
            place.parent.mkdir(parents=True, exist_ok=True)
            if file not in lost:
                place.write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return tmp_path

    monkeypatch.syspath_prepend(tmp_path)
    return install


def test_a_healthy_installation_passes_the_doctor(capsys):
    assert main(["doctor", "--thorough"]) == 0
    printed = capsys.readouterr().out
    assert "torch 2." in printed
    assert "not loaded" not in printed
    assert "Everything is well." in printed


def test_what_was_not_loaded_is_not_called_well_without_a_word(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "may_have_gpu", lambda: False)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for name in doctor.WITH_TORCH:
        (line,) = [line for line in printed.splitlines() if line.startswith(f"ok    {name} ")]
        assert "(not loaded; its " in line
    assert "Everything is well." not in printed
    assert "with --thorough, torch is loaded" in printed


LOADED = """
import sys
from snnlib.cli import doctor
from snnlib.cli.main import main
doctor.may_have_gpu = lambda: False  # here none is asked
assert main(["doctor"]) == 0
print("loaded", sorted({"torch", "torchvision", "spikingjelly", "tensorboard"} & set(sys.modules)))
"""


def test_the_doctor_leaves_torch_alone_where_nothing_is_wrong():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded []", done.stdout + done.stderr


def test_a_gpu_or_a_doubt_makes_the_doctor_load_torch(monkeypatch):
    monkeypatch.setattr(doctor, "may_have_gpu", lambda: True)
    assert doctor.diagnose()[1]
    monkeypatch.setattr(doctor, "may_have_gpu", lambda: False)
    assert not doctor.diagnose()[1]
    monkeypatch.setattr(doctor, "doubt_about", lambda name: "it looks odd" * (name == "torch"))
    findings, loaded = doctor.diagnose()
    assert loaded
    lines = [text for _, text in findings if "it looks odd" in text]
    assert lines == [f"torch {environment.versions()['torch']} (loaded since it looks odd)"]


@pytest.mark.parametrize("place", ["/dev/nvidia0", "/dev/kfd"])
def test_the_file_of_a_gpu_speaks_for_one(place, monkeypatch):
    monkeypatch.setattr(doctor.Path, "exists", lambda self: str(self) == place)
    assert doctor.may_have_gpu()


def test_an_apple_processor_a_driver_and_its_tool_speak_for_a_gpu(monkeypatch):
    def no_library(name):
        raise OSError(name)

    monkeypatch.setattr(doctor.Path, "exists", lambda self: False)
    monkeypatch.setattr(doctor.platform, "system", lambda: "Darwin")
    for machine, answer in (("arm64", True), ("x86_64", False)):
        monkeypatch.setattr(doctor.platform, "machine", lambda machine=machine: machine)
        assert doctor.may_have_gpu() is answer
    monkeypatch.setattr(doctor.platform, "system", lambda: "Linux")
    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda name: None)
    assert doctor.may_have_gpu()
    monkeypatch.setattr(doctor.ctypes, "CDLL", no_library)
    for tool, answer in (("/usr/bin/nvidia-smi", True), (None, False)):
        monkeypatch.setattr(doctor.shutil, "which", lambda name, tool=tool: tool)
        assert doctor.may_have_gpu() is answer


def test_files_as_they_were_installed_raise_no_doubt(install):
    install("torch", "2.99", {"__init__.py": "", "version.py": "__version__ = '2.99+cpu'"})
    vision = {"__init__.py": "", "version.py": "__version__: str = '0.99+cpu'\n"}
    install("torchvision", "0.99", vision, needs=["torch==2.99", "nothing; extra == 'all'"])
    assert doctor.doubt_about("torch") == ""
    assert doctor.doubt_about("torchvision") == ""


@pytest.mark.parametrize(
    ("version", "build", "needs", "lost", "doubt"),
    [
        ("0.99", "cpu", [], ["_C.so"], "1 of its files are missing or changed, as torchvision/_C"),
        ("0.99", "cu132", [], [], "its build is cu132, and that of torch cpu"),
        ("0.99", "cpu", ["torch==2.98"], [], "needs torch==2.98, and 2.99 is installed"),
        ("0.99", "cpu", ["qqq>=1"], [], "torchvision needs qqq, which is not installed"),
        ("0.19", "cpu", [], [], "snnlib needs torchvision>=0.21, and 0.19 is installed"),
    ],
)
def test_files_raise_a_doubt(version, build, needs, lost, doubt, install):
    install("torch", "2.99", {"__init__.py": "", "version.py": "__version__ = '2.99+cpu'"})
    told = f"__version__ = '{version}+{build}'"
    files = {"__init__.py": "", "version.py": told, "_C.so": "code"}
    install("torchvision", version, files, needs, lost)
    assert doubt in doctor.doubt_about("torchvision")


def test_a_file_of_another_size_a_lost_list_and_another_place_raise_a_doubt(install):
    place = install("torch", "2.99", {"__init__.py": ""})
    (place / "torch" / "__init__.py").write_text("pass")
    assert "1 of its files are missing or changed" in doctor.doubt_about("torch")
    (place / "torch-2.99.dist-info" / "RECORD").unlink()
    assert "nobody wrote down which files" in doctor.doubt_about("torch")
    (place / "torch" / "__init__.py").unlink()
    assert "it is not where it was installed" in doctor.doubt_about("torch")
    install("spikingjelly", "2.1", {"__init__.py": ""})
    assert doctor.doubt_about("spikingjelly") == "it has no activation_based"
    assert doctor.doubt_about("qqq") == "it is not installed"


def test_what_cannot_be_examined_is_loaded(install, monkeypatch):
    install("torch", "2.99", {"__init__.py": ""}, needs=["no requirement at all"])
    assert "its files cannot be examined: " in doctor.doubt_about("torch")
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    assert "its files cannot be examined: import of packaging" in doctor.doubt_about("torch")
    assert doctor._package("safetensors")[0]


def test_torchvision_of_another_build_is_found_loaded_and_told_with_its_cure(install):
    error = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    place = install("torchvision", "0.99", {"__init__.py": error, "version.py": ""})
    done = run_doctor(place)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert line.startswith("WRONG torchvision: operator torchvision::nms does not exist; torch and")
    assert "--force-reinstall torch torchvision" in line
    assert "ok    torch 2." in done.stdout


def test_a_package_older_than_asked_is_wrong_even_if_it_loads(monkeypatch):
    monkeypatch.setattr(doctor, "_need_unmet", lambda name, only="": "snnlib needs numba>=9")
    well, text = doctor._package("numba")
    assert not well
    assert text == "snnlib needs numba>=9; python -m pip install -U numba"


@pytest.mark.parametrize(
    ("package", "error", "cure"),
    [
        ("torchvision", "operator torchvision::nms does not exist", "install torch torchvision"),
        ("torchvision", "undefined symbol", "-m pip install -U torchvision"),
        ("numba", "Numba needs NumPy 2.3 or less. Got NumPy 2.4.", "-m pip install -U numba numpy"),
        ("matplotlib", "numpy.core.multiarray failed", "-m pip install -U matplotlib numpy"),
        ("safetensors", "", "-m pip install -U safetensors"),
        ("spikingjelly", "No module named 'spikingjelly.activation_based'", "spikingjelly>=2.0"),
    ],
)
def test_the_doctor_knows_the_cure(package, error, cure, capsys, monkeypatch):
    imported = doctor._imported

    def broken(module):
        if module.startswith(package):
            raise RuntimeError(error)
        return imported(module)

    monkeypatch.setattr(doctor, "_imported", broken)
    needs_torch = ["--thorough"] if package in doctor.WITH_TORCH else []
    assert main(["doctor", *needs_torch]) == 1
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("WRONG"))
    assert (error.rstrip(".") or "RuntimeError") in line
    assert cure.replace("install torch", "--force-reinstall torch") in line
    assert "1 of 9 need care" in printed


@pytest.mark.parametrize("name", ["numba", "matplotlib", "safetensors", "torch"])
def test_the_doctor_sees_a_file_that_takes_the_place_of_a_package(name, tmp_path):
    own = tmp_path / f"{name}.py"
    own.write_text("x = 1\n")
    done = run_doctor(tmp_path)
    assert done.returncode == 1
    assert f"WRONG {name}: {own} is imported in its place, rename that file" in done.stdout
    assert "Traceback" not in done.stderr


def no_kernel(*shape, **options):
    raise RuntimeError("CUDA error: no kernel image is available for execution\non the device")


def test_a_gpu_that_does_not_compute_is_not_praised(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    with monkeypatch.context() as broken:
        broken.setattr(torch, "Generator", lambda device: None)
        broken.setattr(torch, "ones", no_kernel)
        well, text = doctor._devices()
    assert not well
    assert "the GPU does not compute: CUDA error: no kernel image is available" in text
    assert "for execution; install torch for this GPU" in text
    monkeypatch.setattr(environment, "fault_of", lambda device: "")
    assert doctor._devices()[1].endswith("GPU Some GPU computes")


def test_an_apple_gpu_is_told_with_the_flag_that_takes_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(environment, "fault_of", lambda device: "")
    assert "the Apple GPU computes; --device mps takes it" in doctor._devices()[1]


def test_the_first_unpacking_is_told_once_with_its_place(tmp_path):
    first, second = (run_doctor(SNNLIB_CACHE=str(tmp_path)) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stderr.count(f"unpacked and verified {tmp_path}") == 4
    assert "unpacked" not in second.stderr
