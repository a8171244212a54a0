"""The agent of dataflows, by its public name: `from rlaas.stream import StreamProcessingRLAgent`.

What stands in `__all__` is promised; everything below `rlaas_ray` may move.
"""

from rlaas_ray.live.llm import ChatClient, StreamProcessingRLAgent
from rlaas_ray.policies.lastream.generators import Context, Generator, LLMGenerator, OfflineGenerator

__all__ = ["ChatClient", "Context", "Generator", "LLMGenerator", "OfflineGenerator", "StreamProcessingRLAgent"]
