#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/geometry.hpp"
#include "krul/model/four_bit_block.hpp"
#include "krul/model/gguf.hpp"

namespace krul {

/// What of a model is used; 0: all that the file has.
struct DecoderLimits {
  std::size_t vocabulary = 0;  ///< the tokens that there are: further rows of the embedding have none
  std::size_t context = 0;     ///< longest conversation in tokens
};

/// A decoder-only transformer as a model file describes it: sizes, and where the weights lie. Views into the file.
/// Every tensor that is named here is there and has the shape that the sizes ask for; matrices are [outputs, inputs],
/// row-major, whole blocks a row.
struct DecoderFile {
  struct Layer {
    const GgufTensor* attention_norm = nullptr;  ///< [hidden]
    const GgufTensor* query = nullptr;           ///< [H * D, hidden]
    const GgufTensor* key = nullptr;             ///< [G * D, hidden]
    const GgufTensor* value = nullptr;           ///< [G * D, hidden]
    const GgufTensor* query_bias = nullptr;      ///< [H * D], or none
    const GgufTensor* key_bias = nullptr;        ///< [G * D], or none
    const GgufTensor* value_bias = nullptr;      ///< [G * D], or none
    const GgufTensor* output = nullptr;          ///< [hidden, H * D]
    const GgufTensor* mlp_norm = nullptr;        ///< [hidden]
    const GgufTensor* gate = nullptr;            ///< [mlp, hidden]
    const GgufTensor* up = nullptr;              ///< [mlp, hidden]
    const GgufTensor* down = nullptr;            ///< [hidden, mlp]
  };

  std::string architecture;  ///< "llama" or "qwen2"
  std::string name;          ///< as the file calls the model; may be empty
  Geometry geometry;
  std::size_t mlp = 0;  ///< width between gate and down
  float norm_epsilon = 0;
  const GgufTensor* embedding = nullptr;    ///< [vocabulary, hidden]
  const GgufTensor* output_norm = nullptr;  ///< [hidden]
  const GgufTensor* output = nullptr;       ///< [vocabulary, hidden]; the embedding where the file has no own
  std::vector<Layer> layers;

  /// Reads and checks the description. Fails with unsupported (an architecture, a key of it or a tensor that krul does
  /// not compute with, named), not_found (a key or tensor is missing, named), corrupt (sizes that do not fit together)
  /// or too_large; corrupt if there are more tokens than rows of the embedding, invalid_argument for more context than
  /// the file says.
  /// @post no two sizes multiply beyond 2^63
  [[nodiscard]] static Result<DecoderFile> read(const GgufFile& file, ElementType cache_type,
                                                const DecoderLimits& limits = {});
};

/// The values of a vector or of some rows of a matrix.
/// @param first  first row, in units of tensor.shape[0]
/// @param out    [rows, tensor.shape[0]], within the tensor
/// @throws PreconditionError if the rows lie outside the tensor
[[nodiscard]] Status read_rows(const GgufTensor& tensor, std::size_t first, std::span<float> out);

/// read_rows of a file's tensor whose values must be finite.
/// @return corrupt, naming the tensor, if one is not
/// @throws PreconditionError as read_rows
[[nodiscard]] Status read_finite_rows(const GgufFile& file, const GgufTensor& tensor, std::size_t first,
                                      std::span<float> out);

/// Scales and minima of the blocks of some rows, for a tensor of four bits (has_four_bits).
/// @param out  [rows, tensor.shape[0] / 32]
/// @throws PreconditionError as read_rows, or if the tensor's type has no such blocks
[[nodiscard]] Status read_four_bit_rows(const GgufTensor& tensor, std::size_t first, std::span<FourBitBlock> out);

/// XXH3-128 of the whole file, of several files that of their hashes; 32 hexadecimal digits: what named the weights in
/// an Identity before weights_identity did.
[[nodiscard]] std::string weights_hash(const GgufFile& file);

}  // namespace krul
