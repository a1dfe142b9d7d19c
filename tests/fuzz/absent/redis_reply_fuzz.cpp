// In the place of a target that this build has no library for.
#include "../fuzz_target.hpp"

namespace krul::fuzz {

Target redis_reply_target() {
  return {.name = "redis_reply", .missing = "hiredis"};
}

}  // namespace krul::fuzz
