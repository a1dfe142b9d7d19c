// In the place of a target that this build has no library for.
#include "../fuzz_target.hpp"

namespace krul::fuzz {

Target sealed_target() {
  return {.name = "sealed", .missing = "libsodium"};
}

}  // namespace krul::fuzz
