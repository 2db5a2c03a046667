"""The numbers of each study, a module a study: presets are values."""
