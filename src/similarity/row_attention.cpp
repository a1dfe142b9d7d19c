#include "krul/similarity/row_attention.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "checked_bytes.hpp"

namespace krul {
namespace {

using detail::check_of, detail::put, detail::take;

constexpr std::uint32_t row_magic = 0x4152524bU;  // "KRRA"
constexpr std::uint32_t row_version = 1;
constexpr std::size_t row_header_bytes = 4 + 4 + 4 + 4 + 8;  // magic, version, bands, rows, counted
constexpr std::size_t most_bands = 4096, most_rows = std::size_t{1} << 24;

// Sums from 2^-20 to 2^11.75, in eighths of a power of two; 0 is what lies below.
constexpr int lowest_eighth = -20 * 8;
std::uint8_t coded_sum(float sum) {
  const float eighth = std::round(8 * std::log2(std::max(sum, 1e-30F))) - static_cast<float>(lowest_eighth);
  return static_cast<std::uint8_t>(std::clamp(eighth, 0.0F, 255.0F));
}
float decoded_sum(std::uint8_t code) {
  return code == 0 ? 0 : std::exp2(static_cast<float>(code + lowest_eighth) / 8);
}

}  // namespace

void RowAttention::reserve_rows(std::size_t keys) {
  if (keys > rows) set_rows(keys);
}

void RowAttention::truncate(std::size_t keys) {
  if (keys < rows) set_rows(keys);
}

void RowAttention::set_rows(std::size_t keys) {
  std::vector<float> resized(bands() * keys);
  for (std::size_t band = 0; band < bands(); ++band)
    std::copy_n(squares.begin() + static_cast<std::ptrdiff_t>(band * rows), std::min(rows, keys),
                resized.begin() + static_cast<std::ptrdiff_t>(band * keys));
  squares = std::move(resized);
  rows = keys;
}

void RowAttention::age(std::size_t query_rows) {
  const double factor = weight_of_age(query_rows);
  counted *= factor;
  for (float& each : squares) each *= static_cast<float>(factor);
}

double RowAttention::weight_of_age(std::size_t query_rows) noexcept {
  return std::exp2(-static_cast<double>(query_rows) / half_life);
}

double RowAttention::received(std::size_t band, std::size_t row) const {
  expects(band < bands() && row < rows, "RowAttention: no such band or row");
  return counted > 0 ? squares[band * rows + row] / counted : 0;
}

std::vector<std::byte> serialize(const RowAttention& attention) {
  std::vector<std::byte> bytes;
  bytes.reserve(row_header_bytes + sizeof(std::uint64_t) + attention.bands() * (4 + attention.rows));
  put(bytes, row_magic);
  put(bytes, row_version);
  put(bytes, static_cast<std::uint32_t>(attention.bands()));
  put(bytes, static_cast<std::uint32_t>(attention.rows));
  put(bytes, std::bit_cast<std::uint64_t>(attention.counted));
  for (const std::size_t layers : attention.band_layers) put(bytes, static_cast<std::uint32_t>(layers));
  for (const float sum : attention.squares) bytes.push_back(static_cast<std::byte>(coded_sum(sum)));
  put(bytes, check_of(bytes));
  return bytes;
}

Result<RowAttention> parse_row_attention(std::span<const std::byte> bytes) {
  const auto damaged = [](const char* what) {
    return fail(ErrorCode::corrupt,
                std::string("what rows have received of attention is damaged: ") + what + "; start without it");
  };
  if (bytes.size() < row_header_bytes + sizeof(std::uint64_t))
    return fail(ErrorCode::truncated, "what rows have received of attention is cut off; start without it");
  auto rest = bytes.first(bytes.size() - sizeof(std::uint64_t));
  auto check = bytes.last(sizeof(std::uint64_t));
  const bool is_sound = take<std::uint64_t>(check) == check_of(rest);
  if (take<std::uint32_t>(rest) != row_magic) return damaged("it begins with something else");
  if (const auto found = take<std::uint32_t>(rest); found != row_version)
    return fail(ErrorCode::unsupported_version,
                "what rows have received of attention is of version " + std::to_string(found) + "; start without it");
  if (!is_sound) return damaged("its checksum differs");
  const std::size_t bands = take<std::uint32_t>(rest), rows = take<std::uint32_t>(rest);
  if (bands > most_bands || rows > most_rows)
    return fail(ErrorCode::too_large, "what rows have received of attention is of too many rows; start without it");
  RowAttention attention;
  attention.counted = std::bit_cast<double>(take<std::uint64_t>(rest));
  if (!std::isfinite(attention.counted) || attention.counted < 0) return damaged("its rows cannot be counted");
  if (rest.size() != bands * (4 + rows)) return damaged("its length does not fit its rows");
  for (std::size_t band = 0; band < bands; ++band) attention.band_layers.push_back(take<std::uint32_t>(rest));
  attention.rows = rows;
  attention.squares.resize(bands * rows);
  for (float& sum : attention.squares) sum = decoded_sum(take<std::uint8_t>(rest));
  return attention;
}

}  // namespace krul
