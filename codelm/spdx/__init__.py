"""Licences as SPDX names them: identifiers, and expressions of several."""
