"""A folder of sampled videos: what lies in it, and the engine that fills it while later frames are still sampled."""
