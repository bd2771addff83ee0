"""DICOM over associations: our own upper layer, C-FIND, C-MOVE, C-GET as SCU, C-STORE as SCP (PS3.7, PS3.8)."""
