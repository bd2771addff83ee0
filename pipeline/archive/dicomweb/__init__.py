"""DICOMweb: QIDO-RS and WADO-RS over HTTP (PS3.18)."""
