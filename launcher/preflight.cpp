#include "launcher/preflight.h"
