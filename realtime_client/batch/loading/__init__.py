"""From YAML files to cases, with every mistake and its place."""
