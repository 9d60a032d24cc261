#include "launcher/bootstrap.h"
