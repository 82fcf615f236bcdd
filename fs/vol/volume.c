#include "vol/ops.h"
