#include <lunfs/dev.h>
