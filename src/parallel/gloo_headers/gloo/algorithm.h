// Stands in for Gloo's header: c10d includes it and uses nothing from it (see ../README.md).
#pragma once
