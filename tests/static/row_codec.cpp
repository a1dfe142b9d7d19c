#include <krul/compress/row_codec.hpp>
#include <string>
#include <vector>

using krul::Geometry, krul::Status;

namespace {

struct CodecArchetype {
  CodecArchetype() = delete;
  CodecArchetype(const CodecArchetype&) = delete;
  CodecArchetype& operator=(const CodecArchetype&) = delete;

  [[nodiscard]] std::string_view name() const;
  [[nodiscard]] std::size_t bytes(const Geometry&, std::size_t) const;
  void encode(const Geometry&, std::span<const std::byte>, std::span<std::byte>) const;
  [[nodiscard]] Status decode(const Geometry&, std::span<const std::byte>, std::span<std::byte>) const;
  [[nodiscard]] double relative_error(krul::ElementType) const;
};
struct NamedByString : CodecArchetype {
  [[nodiscard]] std::string name() const;
};
struct BytesWithoutGeometry : CodecArchetype {
  [[nodiscard]] std::size_t bytes(std::size_t) const;
};
struct EncodesFloats : CodecArchetype {
  void encode(const Geometry&, std::span<const float>, std::span<std::byte>) const;
};
struct EncodesOnlyWhenMutable : CodecArchetype {
  void encode(const Geometry&, std::span<const std::byte>, std::span<std::byte>);
};
struct DecodesWithoutStatus : CodecArchetype {
  void decode(const Geometry&, std::span<const std::byte>, std::span<std::byte>) const;
};
struct NoError : CodecArchetype {
  void relative_error(krul::ElementType) const = delete;
};
static_assert(krul::RowCodec<CodecArchetype>);
static_assert(!krul::RowCodec<NamedByString>);
static_assert(!krul::RowCodec<BytesWithoutGeometry>);
static_assert(!krul::RowCodec<EncodesFloats>);
static_assert(!krul::RowCodec<EncodesOnlyWhenMutable>);
static_assert(!krul::RowCodec<DecodesWithoutStatus>);
static_assert(!krul::RowCodec<NoError>);

}  // namespace
