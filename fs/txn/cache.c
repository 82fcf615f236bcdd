#include "txn/txn.h"
