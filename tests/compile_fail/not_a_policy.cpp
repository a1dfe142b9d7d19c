// A policy must answer prefix(sizes, costs): the compiler names the concept that the type fails.
#include "krul/restore/restoration_scheduler.hpp"

struct RecomputesHalf {
  double ratio = 0.5;
};

krul::RestorationScheduler<RecomputesHalf> scheduler;
