#pragma once

#include <string>
#include <string_view>

#include "krul/model/gguf.hpp"

namespace krul {

/// What names the weights in an Identity: a hash of all tensors and of those keys that say how they are computed with,
/// 32 hexadecimal digits. The order of keys and tensors, other keys (licence, name, chat template), how numbers, norms
/// and biases are typed, and keys that ask for what is computed without them do not change it; nor do sizes and the
/// rotary embedding, which describe(Geometry) names, nor the length of the context. An output matrix that repeats the
/// embedding is one that is not there, and so is a bias of zeros. Matrices count as they are stored.
[[nodiscard]] std::string weights_identity(const GgufFile& file, std::string_view architecture);

}  // namespace krul
