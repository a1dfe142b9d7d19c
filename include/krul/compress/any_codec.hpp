#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "krul/compress/any_chunk_coder.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int4_codec.hpp"
#include "krul/compress/int8_codec.hpp"

namespace krul {

/// Any of krul's row codecs, chosen while the program runs; dispatches once a call, not once a value.
class AnyRowCodec {
 public:
  using Variant = std::variant<ExactCodec, F16Codec, Bf16Codec, Int8Codec, Int4Codec>;

  AnyRowCodec() noexcept = default;
  template <class Codec>
  requires(!std::same_as<Codec, AnyRowCodec> && std::constructible_from<Variant, Codec>) AnyRowCodec(Codec codec)
  noexcept : codec_(codec) {}

  [[nodiscard]] std::string_view name() const noexcept;
  [[nodiscard]] std::size_t bytes(const Geometry& geometry, std::size_t rows) const noexcept;
  /// @throws PreconditionError if a span's length does not fit
  void encode(const Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const;
  /// @throws PreconditionError if a span's length does not fit
  [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> from,
                              std::span<std::byte> rows) const;
  [[nodiscard]] double relative_error(ElementType type) const noexcept;

  /// One of each kind, in the order of their numbers.
  [[nodiscard]] static std::array<AnyRowCodec, std::variant_size_v<Variant>> all() noexcept;

 private:
  Variant codec_;  // the cache's own bytes unless chosen otherwise
};
static_assert(RowCodec<AnyRowCodec>);

/// "exact, f16, bf16, int8, int4": for messages and help texts.
[[nodiscard]] std::string row_codec_names();

/// One of krul's codecs, by the number that coding_numbers.hpp gives it.
/// @return unsupported if this build has no codec of that number
[[nodiscard]] Result<AnyRowCodec> row_codec_from_number(unsigned number);

/// @return unsupported if there is no codec of that name
[[nodiscard]] Result<AnyRowCodec> row_codec_from_name(std::string_view name);

/// Every layer coded by itself, by one of krul's codecs.
[[nodiscard]] AnyChunkCoder separate_coder(AnyRowCodec codec);

}  // namespace krul
