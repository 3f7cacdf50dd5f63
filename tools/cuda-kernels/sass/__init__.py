"""Machine code of GPUs: what nvdisasm prints of it, and how often its instructions are issued."""
