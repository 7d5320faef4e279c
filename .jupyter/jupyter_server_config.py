"""JupyterLab as `make lab` starts it: the workbench opens, runs can be changed, the repository's own files cannot."""

import os
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]

c = get_config()
# Served from the repository: working copies, outputs and reports lie beside the templates.
c.ServerApp.root_dir = str(HOME)
c.ServerApp.ip = "127.0.0.1"
c.LabApp.default_url = "/lab/tree/notebooks/0_workbench.ipynb"
c.ServerApp.contents_manager_class = "recon_lib.workbench.contents.WorkbenchContents"
# Without this, uploads over 10 MiB through a widget are lost without a word.
c.ServerApp.tornado_settings = {"websocket_max_message_size": 256 * 1024 * 1024}
c.ServerApp.allow_unauthenticated_access = False
c.FileContentsManager.delete_to_trash = False
c.LabApp.app_settings_dir = str(HOME / ".jupyter" / "lab" / "settings")  # no news, no search for updates
# A kernel holds up to 1 GB. One that has said nothing for an hour ends, also where a browser shows its notebook; a fit that
# runs in a panel says something twice a second, and one that is paused has written its checkpoint.
c.MappingKernelManager.cull_idle_timeout = 3600  # seconds
c.MappingKernelManager.cull_connected = True
if hasattr(os, "geteuid") and os.geteuid() == 0:
    c.ServerApp.allow_root = True
    print(
        "warning: JupyterLab runs as root, so whoever has its token may change anything on this machine",
        file=sys.stderr,
    )
