#pragma once

#include "krul/core/workers.hpp"
#include "krul/model/matrix_kernels.hpp"
#include "krul/model/precision.hpp"

namespace krul::eval {

/// Operations a second (two for each product) of the processor's dot products on what lies nearest, with all threads of
/// a team: what no matrix product in this precision exceeds, with weights of this form. The best of several tries, some
/// 0.1 s in all.
[[nodiscard]] double measure_arithmetic_roof(Precision precision, Workers& workers, WeightForm form = WeightForm::any);

/// Bytes a second that all threads of a team read together from memory that is in no cache. The best of several tries.
/// Takes some 0.1 s, and 256 MiB.
/// @throws std::bad_alloc
[[nodiscard]] double measure_reading_roof(Workers& workers);

}  // namespace krul::eval
