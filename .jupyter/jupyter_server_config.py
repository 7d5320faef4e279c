"""JupyterLab as `make lab` starts it."""

c = get_config()
# Served from the repository: working copies, outputs and reports lie beside the templates.
c.ServerApp.default_url = "/lab/tree/notebooks"
# Uploads over 10 MiB through a widget are otherwise lost without a word.
c.ServerApp.tornado_settings = {"websocket_max_message_size": 256 * 1024 * 1024}
c.ServerApp.allow_unauthenticated_access = False
c.FileContentsManager.delete_to_trash = False
