#include "krul/compress/entropy/entropy_path.hpp"

namespace krul {

std::string_view name(EntropyPath path) noexcept {
  return path == EntropyPath::avx512 ? "avx512" : "portable";
}

bool available(EntropyPath path) noexcept {
  if (path == EntropyPath::portable) return true;
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

EntropyPath fastest_entropy_path() noexcept {
  return available(EntropyPath::avx512) ? EntropyPath::avx512 : EntropyPath::portable;
}

}  // namespace krul
