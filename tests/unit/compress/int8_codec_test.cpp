#include "krul/compress/int8_codec.hpp"

#include <limits>

#include "krul/reference/row_codec.hpp"
#include "support/codec_checks.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

// 64 and 128 use the vector loop alone, 20 its remainder too, 5 only the remainder.
constexpr std::size_t int8_head_dims[] = {5, 20, 64, 128};

std::vector<std::byte> one_head(const Geometry& geometry, double value, double other) {
  std::vector<double> values(geometry.kv_values(), other);
  values[geometry.kv_values() / 2] = value;
  return to_bytes(geometry.cache_type, values);
}

}  // namespace

TEST_CASE("int8 keeps its error bound") {
  for_all_rows(int8_head_dims, 60, [](const Geometry& geometry, const std::vector<std::byte>& rows) {
    check_error_bound(Int8Codec{}, geometry, rows, subnormal_error(geometry.cache_type));
  });
}

TEST_CASE("int8 keeps its error bound without any allowance where peaks are normal") {
  for (const ElementType type : all_types)
    for (const auto& family : kv_families) {
      if (family.name == "subnormal" || family.name == "many scales") continue;
      CAPTURE(family.name);
      const Geometry geometry = kv_geometry(type);
      check_error_bound(Int8Codec{}, geometry, kv_rows(family, geometry, 200, 6), 0);
    }
}

TEST_CASE("int8 agrees with its twin") {
  for_all_rows(int8_head_dims, 60, [](const Geometry& geometry, const std::vector<std::byte>& rows) {
    const ElementType type = geometry.cache_type;
    const std::size_t head_dim = geometry.head_dim, coded = 2 + head_dim;
    const auto values = to_doubles(type, rows);
    const auto bytes = encoded(Int8Codec{}, geometry, rows);
    const auto back = to_doubles(type, decoded(Int8Codec{}, geometry, bytes, 60));
    for (std::size_t head = 0; head * head_dim < values.size(); ++head) {
      auto twin = reference::int8_encode(type, std::span(values).subspan(head * head_dim, head_dim));
      for (std::size_t i = 0; i < head_dim; ++i) {
        const int code = static_cast<std::int8_t>(bytes[head * coded + 2 + i]);
        // Two float roundings of at most 2^-24 each may turn a tie: a code differs only within that of one.
        const double exact = twin.peak > 0 ? 127 * values[head * head_dim + i] / twin.peak : 0;
        REQUIRE(std::abs(exact - code) <= 0.5 + 127 * 2.01 * 0x1p-24);
        twin.codes[i] = code;
      }
      const auto expected = reference::int8_decode(type, twin);
      for (std::size_t i = 0; i < head_dim; ++i) {
        // Three float roundings can move the twin's value across a tie of the last rounding: one unit of the type.
        const double unit = 2 * unit_roundoff(type) * (type == ElementType::f32 ? 2 : 1);
        REQUIRE(std::abs(back[head * head_dim + i] - expected[i]) <=
                std::max(unit * std::abs(expected[i]), smallest_subnormal(type)));
      }
    }
  });
}

TEST_CASE("int8 does not drift: coding a decoded head gives the same bytes") {
  for_all_rows(int8_head_dims, 60, [](const Geometry& geometry, const std::vector<std::byte>& rows) {
    const auto bytes = encoded(Int8Codec{}, geometry, rows);
    CHECK(encoded(Int8Codec{}, geometry, decoded(Int8Codec{}, geometry, bytes, 60)) == bytes);
  });
}

TEST_CASE("int8 does not drift for any peak of a two-byte type") {
  for (const ElementType type : {ElementType::f16, ElementType::bf16}) {
    const Geometry geometry = kv_geometry(type, 1, 255);
    const unsigned infinity = type == ElementType::f16 ? 0x7c00U : 0x7f80U;
    for (unsigned bits = 0; bits < infinity; ++bits) {
      std::vector<std::byte> bytes(2 + 255);
      bytes[0] = static_cast<std::byte>(bits & 0xffU);
      bytes[1] = static_cast<std::byte>(bits >> 8);
      for (int code = -127; bits > 0 && code <= 127; ++code)
        bytes[static_cast<std::size_t>(code + 129)] = static_cast<std::byte>(code);
      const auto rows = decoded(Int8Codec{}, geometry, bytes, 1);
      // Codes whose values round to the same number of the type may merge once, never again.
      const auto again = encoded(Int8Codec{}, geometry, rows);
      REQUIRE(to_doubles(type, decoded(Int8Codec{}, geometry, again, 1)) == to_doubles(type, rows));  // -0 turns 0
      if (to_doubles(type, rows)[254] >= smallest_normal(type)) REQUIRE(again == bytes);
    }
  }
}

TEST_CASE("the vector loop and its remainder decode to the same bits") {
  for (const ElementType type : all_types)
    for (unsigned peak = 1; peak < 0x7c00U; peak += 3) {
      // The same 255 codes as one head, nearly all in the vector loop, and as 51 heads too short for it.
      const Geometry whole = kv_geometry(type, 1, 255), pieces = kv_geometry(type, 51, 5);
      std::vector<std::byte> whole_bytes, piece_bytes;
      for (int code = -127; code <= 127; ++code) {
        for (auto* bytes : {&whole_bytes, &piece_bytes}) {
          if (bytes == &whole_bytes ? code == -127 : (code + 127) % 5 == 0) {
            bytes->push_back(static_cast<std::byte>(peak & 0xffU));
            bytes->push_back(static_cast<std::byte>(peak >> 8));
          }
          bytes->push_back(static_cast<std::byte>(code));
        }
      }
      REQUIRE(decoded(Int8Codec{}, whole, whole_bytes, 1) == decoded(Int8Codec{}, pieces, piece_bytes, 1));
    }
}

TEST_CASE("int8 takes one byte a value and two a head, and no value clips") {
  const Geometry geometry = kv_geometry(ElementType::f16, 3, 64);
  CHECK(Int8Codec{}.bytes(geometry, 10) == 10 * 3 * (64 + 2));
  const auto bytes =
      encoded(Int8Codec{}, kv_geometry(ElementType::f16, 1, 4), to_bytes(ElementType::f16, {1, -2, 0.5, 2}));
  const int codes[] = {64, -127, 32, 127};  // 63.5 and 31.75: ties go to even
  for (std::size_t i = 0; i < 4; ++i) CHECK(static_cast<std::int8_t>(bytes[2 + i]) == codes[i]);
}

TEST_CASE("a head with a value that is not finite comes back as NaN, its neighbours as they were") {
  for (const ElementType type : all_types)
    for (const double value :
         {std::nan(""), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
      const Geometry geometry = kv_geometry(type, 3, 20);  // the value lies in the second head
      const auto bytes = encoded(Int8Codec{}, geometry, one_head(geometry, value, 1.0));
      const auto rows = decoded(Int8Codec{}, geometry, bytes, 1);
      const auto back = to_doubles(type, rows);
      for (std::size_t i = 0; i < 60; ++i) CHECK((i / 20 == 1 ? std::isnan(back[i]) : back[i] == 1.0));
      CHECK(encoded(Int8Codec{}, geometry, rows) == bytes);
    }
}

TEST_CASE("bytes that no encoder writes are corrupt") {
  for (const ElementType type : all_types) {
    const Geometry geometry = kv_geometry(type, 1, 40);
    const auto good = encoded(Int8Codec{}, geometry, one_head(geometry, 2.0, 1.0));
    std::vector<std::byte> rows(geometry.kv_row_bytes());
    const auto code_of = [&](std::vector<std::byte> bytes) {
      const Status status = Int8Codec{}.decode(geometry, bytes, rows);
      return status ? std::string("ok") : std::string(name(status.error().code));
    };
    CHECK(code_of(good) == "ok");
    for (const std::size_t i : {0U, 17U, 39U}) {  // in the vector loop and in its remainder
      auto bytes = good;
      bytes[2 + i] = std::byte{0x80};
      CHECK(code_of(bytes) == "corrupt");
    }
    const auto with_peak = [&](unsigned bits, std::byte code) {
      std::vector<std::byte> bytes(good.size(), std::byte{0});
      bytes[0] = static_cast<std::byte>(bits & 0xffU);
      bytes[1] = static_cast<std::byte>(bits >> 8);
      bytes[20] = code;
      return bytes;
    };
    const unsigned infinity = type == ElementType::f32 ? 0xff00U : type == ElementType::f16 ? 0x7c00U : 0x7f80U;
    CHECK(code_of(with_peak(infinity, std::byte{0})) == "corrupt");
    CHECK(code_of(with_peak(0, std::byte{0})) == "ok");
    CHECK(code_of(with_peak(0, std::byte{1})) == "corrupt");
    CHECK(code_of(with_peak(infinity + 1, std::byte{0})) == "ok");  // a NaN
    CHECK(code_of(with_peak(infinity + 1, std::byte{1})) == "corrupt");
    if (type != ElementType::f32) CHECK(code_of(with_peak(0xbc00U, std::byte{0})) == "corrupt");  // negative
  }
}

TEST_CASE("an f32 head of any size survives") {
  const Geometry geometry = kv_geometry(ElementType::f32, 1, 20);
  for (const double peak : {3.4028234663852886e38, 3.39e38, 1e30, 1.0, 1e-30, 0x1p-126}) {
    CAPTURE(peak);
    const auto rows = one_head(geometry, peak, peak / 3);
    check_error_bound(Int8Codec{}, geometry, rows, smallest_subnormal(ElementType::f32));
    const auto bytes = encoded(Int8Codec{}, geometry, rows);
    CHECK(encoded(Int8Codec{}, geometry, decoded(Int8Codec{}, geometry, bytes, 1)) == bytes);
  }
  const auto tiny =
      to_doubles(ElementType::f32,
                 decoded(Int8Codec{}, geometry, encoded(Int8Codec{}, geometry, one_head(geometry, 0x1p-127, 0)), 1));
  CHECK(tiny == std::vector<double>(20, 0.0));
}

TEST_CASE("int8 checks lengths") {
  check_lengths(Int8Codec{});
}
