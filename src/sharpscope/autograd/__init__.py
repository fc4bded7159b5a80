"""What torch needs so that a module can be differentiated twice, and so that it is left as it was.

``module_state`` saves and restores a module and the process; ``double_backward`` and ``convolution`` replace
operations whose second derivative is wrong or slow; ``vectors`` holds inner products of long vectors; ``allocator``
keeps freed memory with the process.
"""
