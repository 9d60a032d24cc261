#include "launcher/guardian.h"
