"""All tests run in one process, which gives freed memory back as the command line does: jobs plan with what is left."""

from streamcluster.runtime.memory import settle_allocator

settle_allocator()
