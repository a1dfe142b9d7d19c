#include "krul/similarity/attention_statistics.hpp"

#include <bit>
#include <limits>
#include <string>

#include "checked_bytes.hpp"

namespace krul {
namespace {

using detail::check_of, detail::put, detail::take;

constexpr std::uint32_t magic = 0x4d53524bU;  // "KRSM"
constexpr std::uint32_t version = 1;
constexpr std::size_t header_bytes = 4 + 4 + 4 + 4 + 4 + 8;  // magic, version, L, H, bins, rows
constexpr std::size_t check_bytes = 8;
constexpr std::size_t most_layers = 4096;
constexpr std::size_t most_bins = (std::size_t{1} << 24) / AttentionStatistics::bin_keys;

void put_float(std::vector<std::byte>& bytes, double value) {
  constexpr double largest = std::numeric_limits<float>::max();
  put(bytes, std::bit_cast<std::uint32_t>(static_cast<float>(std::min(value, largest))));
}

/// A value that is a sum of squares or of weights.
bool take_sum(std::span<const std::byte>& bytes, double& sum) {
  const auto value = std::bit_cast<float>(take<std::uint32_t>(bytes));
  sum = static_cast<double>(value);
  return std::isfinite(value) && value >= 0;
}

tl::unexpected<Error> corrupt(const std::string& what) {
  return fail(ErrorCode::corrupt, "the attention statistics are damaged: " + what + "; start without them");
}

}  // namespace

std::vector<std::byte> serialize(const AttentionStatistics& statistics) {
  const std::size_t layers = statistics.layers, bins = statistics.bins();
  expects(statistics.squared.size() == layers * layers && statistics.mass.size() == layers * bins,
          "serialize: the statistics' sizes do not fit their layers");
  std::vector<std::byte> bytes;
  bytes.reserve(header_bytes + check_bytes + 4 * (layers * (layers + 1) / 2 + layers * bins));
  put(bytes, magic);
  put(bytes, version);
  put(bytes, static_cast<std::uint32_t>(layers));
  put(bytes, static_cast<std::uint32_t>(statistics.query_heads));
  put(bytes, static_cast<std::uint32_t>(bins));
  put(bytes, statistics.rows);
  for (std::size_t i = 0; i < layers; ++i)
    for (std::size_t j = i + 1; j < layers; ++j) put_float(bytes, std::max(statistics.squared[i * layers + j], 0.0));
  for (const double mass : statistics.mass) put_float(bytes, std::max(mass, 0.0));
  put(bytes, check_of(bytes));
  return bytes;
}

Result<AttentionStatistics> parse_attention_statistics(std::span<const std::byte> bytes) {
  if (bytes.size() < header_bytes + check_bytes)
    return fail(ErrorCode::truncated, "the attention statistics are cut off; start without them");
  auto rest = bytes.first(bytes.size() - check_bytes);
  auto end = bytes.last(check_bytes);
  if (take<std::uint32_t>(rest) != magic) return corrupt("they begin with something else");
  if (const auto found = take<std::uint32_t>(rest); found != version)
    return fail(ErrorCode::unsupported_version,
                "the attention statistics have version " + std::to_string(found) + "; this build reads version 1");
  const std::size_t layers = take<std::uint32_t>(rest), heads = take<std::uint32_t>(rest);
  const std::size_t bins = take<std::uint32_t>(rest);
  const auto rows = take<std::uint64_t>(rest);
  if (layers > most_layers || heads > most_layers || bins > most_bins)
    return fail(ErrorCode::too_large,
                "the attention statistics are of a larger model or a longer conversation than "
                "this build accepts; start without them");
  const std::size_t values = layers * (layers - (layers > 0)) / 2 + layers * bins;  // below 2^31
  if (rest.size() < 4 * values)
    return fail(ErrorCode::truncated, "the attention statistics are cut off; start without them");
  if (rest.size() > 4 * values) return corrupt("bytes follow that do not belong to them");
  if (take<std::uint64_t>(end) != check_of(bytes.first(bytes.size() - check_bytes)))
    return corrupt("their check does not match");

  AttentionStatistics statistics(layers, heads);
  statistics.rows = rows;
  bool sound = true;
  for (std::size_t i = 0; i < layers; ++i)
    for (std::size_t j = i + 1; j < layers; ++j) {
      sound = take_sum(rest, statistics.squared[i * layers + j]) && sound;
      statistics.squared[j * layers + i] = statistics.squared[i * layers + j];
    }
  statistics.mass.resize(layers * bins);
  for (double& mass : statistics.mass) sound = take_sum(rest, mass) && sound;
  if (!sound) return corrupt("a sum of squares or weights is negative or no number");
  return statistics;
}

}  // namespace krul
