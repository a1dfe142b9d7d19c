#pragma once

#include <array>
#include <concepts>
#include <string>
#include <variant>

#include "krul/compress/coding_numbers.hpp"
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

  [[nodiscard]] std::string_view name() const noexcept {
    return std::visit([](const auto& codec) { return codec.name(); }, codec_);
  }
  [[nodiscard]] std::size_t bytes(const Geometry& geometry, std::size_t rows) const noexcept {
    return std::visit([&](const auto& codec) { return codec.bytes(geometry, rows); }, codec_);
  }
  /// @throws PreconditionError if a span's length does not fit
  void encode(const Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const {
    std::visit([&](const auto& codec) { codec.encode(geometry, rows, to); }, codec_);
  }
  /// @throws PreconditionError if a span's length does not fit
  [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> from,
                              std::span<std::byte> rows) const {
    return std::visit([&](const auto& codec) { return codec.decode(geometry, from, rows); }, codec_);
  }
  [[nodiscard]] double relative_error(ElementType type) const noexcept {
    return std::visit([&](const auto& codec) { return codec.relative_error(type); }, codec_);
  }

  /// One of each kind, in the order of their numbers.
  [[nodiscard]] static std::array<AnyRowCodec, std::variant_size_v<Variant>> all() noexcept {
    return {ExactCodec{}, F16Codec{}, Bf16Codec{}, Int8Codec{}, Int4Codec{}};
  }

 private:
  Variant codec_;  // the cache's own bytes unless chosen otherwise
};
static_assert(RowCodec<AnyRowCodec>);

/// "exact, f16, bf16, int8, int4": for messages and help texts.
[[nodiscard]] inline std::string row_codec_names() {
  std::string names;
  for (const auto& codec : AnyRowCodec::all()) names += (names.empty() ? "" : ", ") + std::string(codec.name());
  return names;
}

/// One of krul's codecs, by the number that coding_numbers.hpp gives it.
/// @return unsupported if this build has no codec of that number
[[nodiscard]] inline Result<AnyRowCodec> row_codec_from_number(unsigned number) {
  for (const auto& codec : AnyRowCodec::all())
    if (number > 0 && number <= row_codecs_by_number.size() && codec.name() == row_codecs_by_number[number - 1])
      return codec;
  return fail(ErrorCode::unsupported, "row codec number " + std::to_string(number) + " is unknown; this build has " +
                                          row_codec_names() + ": use a newer krul or save again");
}

/// @return unsupported if there is no codec of that name
[[nodiscard]] inline Result<AnyRowCodec> row_codec_from_name(std::string_view name) {
  for (const auto& codec : AnyRowCodec::all())
    if (codec.name() == name) return codec;
  return fail(ErrorCode::unsupported,
              "row codec '" + std::string(name) + "' is unknown; choose one of " + row_codec_names());
}

}  // namespace krul
