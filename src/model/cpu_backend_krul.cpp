#include "krul/model/detail/cpu_backend_impl.hpp"

namespace krul {

template class CpuBackend<KrulKernels>;

}  // namespace krul
