// In the place of a target that this build has no library for.
#include "../fuzz_target.hpp"

namespace krul::fuzz {

Target s3_answer_target() {
  return {.name = "s3_answer", .missing = "libcurl, expat and OpenSSL"};
}

}  // namespace krul::fuzz
