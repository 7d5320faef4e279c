"""JupyterLab in a container: as `make lab`, but reached through a published port, and never without a token.

The token is JUPYTER_TOKEN, or what the file JUPYTER_TOKEN_FILE holds; without either the server makes one and prints it.
"""

import os
from pathlib import Path

c = get_config()
load_subconfig("jupyter_server_config.py", path="/workbench/.jupyter")

c.ServerApp.ip = "0.0.0.0"  # the container's own; compose publishes the port on 127.0.0.1 alone
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0  # another port would not be published
c.ServerApp.open_browser = False
# On 0.0.0.0 Jupyter would answer to any Host header, and a page on the web could reach it through a name of its own.
c.ServerApp.allow_remote_access = False
c.ServerApp.local_hostnames = ["localhost"]

given, file = os.environ.pop("JUPYTER_TOKEN", "").strip(), os.environ.pop("JUPYTER_TOKEN_FILE", "")
if file and not given:
    given = Path(file).read_text().strip()
    if not given:
        raise SystemExit(f"{file}: empty, needed a token; without JUPYTER_TOKEN_FILE the server makes one")
if given:  # an empty token would switch authentication off
    c.IdentityProvider.token = given
