#include "cluster/ats.h"
