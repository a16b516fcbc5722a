"""Parts of a clip that are made where it lacks them: subtitles by ear, crops of faces.

Each is made before the model runs, kept by the content of the file that it was made from, and part
of the run's identity. `make` makes what is missing; `with_parts` only looks up what was made, so
that a plan, the job and a later look see the same clips.
"""

from ovmer.runners.parts.make import identities, make, with_parts

__all__ = ["identities", "make", "with_parts"]
