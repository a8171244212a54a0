"""Pictures: documents in, SVG and HTML text out; for reports, notebooks and pages.

Used by the command line, the attempt that writes a report, and the SDK. Pure: reads no file, draws with no library.
"""
