#include "alloc/alloc.h"
