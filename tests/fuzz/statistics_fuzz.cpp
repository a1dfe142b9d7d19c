// Hostile statistics of attention, as they are and with a check that fits.
#include "fuzz_target.hpp"
#include "krul/similarity/attention_statistics.hpp"
#include "krul/similarity/row_attention.hpp"
#include "similarity/checked_bytes.hpp"

namespace krul::fuzz {
namespace {

void check_statistics(std::span<const std::byte> bytes) {
  const auto statistics = parse_attention_statistics(bytes);
  if (!accepted(statistics)) return;
  require(parse_attention_statistics(serialize(*statistics)) == *statistics, "statistics are not read as written");
  for (std::size_t layer = 0; layer < statistics->layers; ++layer) (void)statistics->edge_mass(layer, 100);
  AttentionStatistics twice = *statistics;
  twice.add(*statistics);
}

void check_row_attention(std::span<const std::byte> bytes) {
  auto attention = parse_row_attention(bytes);
  if (!accepted(attention)) return;
  const auto again = parse_row_attention(serialize(*attention));
  require(again && again->rows == attention->rows && again->band_layers == attention->band_layers,
          "what rows received is not read as written");
  for (std::size_t band = 0; band < attention->bands(); ++band)
    for (std::size_t row = 0; row < attention->rows; ++row) (void)attention->received(band, row);
  attention->age(1000);
  attention->reserve_rows(attention->rows + 3);
  attention->truncate(1);
}

void read_statistics(std::span<const std::byte> input) {
  if (input.empty()) return;
  const auto check = input[0] == std::byte{0} ? check_statistics : check_row_attention;
  Bytes bytes(input.begin() + 1, input.end());
  check(bytes);
  constexpr std::size_t tail = sizeof(std::uint64_t);
  if (bytes.size() < tail) return;
  const std::uint64_t sum = detail::check_of(std::span(bytes).first(bytes.size() - tail));
  for (std::size_t i = 0; i < tail; ++i) bytes[bytes.size() - tail + i] = static_cast<std::byte>(sum >> (8 * i));
  check(bytes);
}

std::vector<Bytes> statistics_seeds() {
  AttentionStatistics statistics(3, 2);
  statistics.rows = 6;
  statistics.reserve_keys(70);
  for (double& mass : statistics.mass) mass = 0.25;
  RowAttention attention({1, 2});
  attention.reserve_rows(6);
  attention.counted = 3;
  for (float& square : attention.squares) square = 0.5F;
  return {joined({0}, serialize(statistics)), joined({1}, serialize(attention))};
}

}  // namespace

Target statistics_target() {
  return {"statistics", read_statistics, statistics_seeds};
}

}  // namespace krul::fuzz
