#include "krul/compress/any_codec.hpp"

#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/layer_pair_compressor.hpp"

namespace krul {

std::string_view AnyRowCodec::name() const noexcept {
  return std::visit([](const auto& codec) { return codec.name(); }, codec_);
}

std::size_t AnyRowCodec::bytes(const Geometry& geometry, std::size_t rows) const noexcept {
  return std::visit([&](const auto& codec) { return codec.bytes(geometry, rows); }, codec_);
}

void AnyRowCodec::encode(const Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const {
  std::visit([&](const auto& codec) { codec.encode(geometry, rows, to); }, codec_);
}

Status AnyRowCodec::decode(const Geometry& geometry, std::span<const std::byte> from, std::span<std::byte> rows) const {
  return std::visit([&](const auto& codec) { return codec.decode(geometry, from, rows); }, codec_);
}

double AnyRowCodec::relative_error(ElementType type) const noexcept {
  return std::visit([&](const auto& codec) { return codec.relative_error(type); }, codec_);
}

std::array<AnyRowCodec, std::variant_size_v<AnyRowCodec::Variant>> AnyRowCodec::all() noexcept {
  return {ExactCodec{}, F16Codec{}, Bf16Codec{}, Int8Codec{}, Int4Codec{}};
}

std::string row_codec_names() {
  std::string names;
  for (const auto& codec : AnyRowCodec::all()) names += (names.empty() ? "" : ", ") + std::string(codec.name());
  return names;
}

Result<AnyRowCodec> row_codec_from_number(unsigned number) {
  for (const auto& codec : AnyRowCodec::all())
    if (number > 0 && number <= row_codecs_by_number.size() && codec.name() == row_codecs_by_number[number - 1])
      return codec;
  return fail(ErrorCode::unsupported, "row codec number " + std::to_string(number) + " is unknown; this build has " +
                                          row_codec_names() + ": use a newer krul or save again");
}

Result<AnyRowCodec> row_codec_from_name(std::string_view name) {
  for (const auto& codec : AnyRowCodec::all())
    if (codec.name() == name) return codec;
  return fail(ErrorCode::unsupported,
              "row codec '" + std::string(name) + "' is unknown; choose one of " + row_codec_names());
}

AnyChunkCoder separate_coder(AnyRowCodec codec) {
  return LayerPairCompressor(Separate{}, codec);
}

}  // namespace krul
