"""What is measured on an exported mesh: `images` against held-out photos, `checks` on its topology, `surface` to a truth."""
