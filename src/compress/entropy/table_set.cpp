#include "krul/compress/entropy/table_set.hpp"

#include <array>

namespace krul {
namespace detail {

AliasTable::AliasTable(const SymbolTable& table)
    : divider{},
      alias{},
      bias{},
      own_frequency{},
      alias_frequency{},
      reach(static_cast<std::uint16_t>(table.reach())),
      shift(static_cast<std::uint16_t>(table.shift())) {
  constexpr std::uint16_t room = 1U << bucket_bits;
  const auto frequencies = table.frequencies();
  Words left{};  // slots of each symbol that have no place yet
  std::copy(frequencies.begin(), frequencies.end(), left.begin());
  own_frequency = left;

  // A bucket that its symbol cannot fill is topped up by the lowest symbol that has more than it can hold. The giver
  // may become such a bucket; then it is next. Slots are given from the top of the giver's offsets.
  std::array<std::size_t, buckets> open;  // a stack, the lowest on top
  std::size_t count = 0, giver = 0;
  for (std::size_t b = buckets; b-- > 0;)
    if (left[b] < room) open[count++] = b;
  const auto next_giver = [&] {
    while (giver < buckets && left[giver] <= room) ++giver;
  };
  next_giver();
  for (std::size_t b = 0; b < buckets; ++b) {
    divider[b] = static_cast<std::uint16_t>((b + 1) * room);
    alias[b] = static_cast<std::uint16_t>(b);
    alias_frequency[b] = own_frequency[b];
  }
  while (count > 0) {
    const std::size_t b = open[--count];
    divider[b] = static_cast<std::uint16_t>(b * room + left[b]);
    left[giver] = static_cast<std::uint16_t>(left[giver] - (room - left[b]));
    alias[b] = static_cast<std::uint16_t>(giver);
    bias[b] = static_cast<std::uint16_t>(divider[b] - left[giver]);
    alias_frequency[b] = own_frequency[giver];
    if (left[giver] < room) open[count++] = giver;
    next_giver();
  }
}

}  // namespace detail

TableSet::TableSet(std::vector<SymbolTable> tables) : tables_(std::move(tables)) {
  expects(!tables_.empty() && tables_.size() < largest_size, "TableSet: needs 1 to 63 tables");
  alias_.reserve(tables_.size());
  for (const auto& table : tables_) alias_.emplace_back(table);
}

TableSet TableSet::universal() {
  constexpr std::uint32_t eighths[] = {65536, 71468, 77936, 84990, 92682, 101070, 110218, 120194};  // 2^16 2^(i / 8)
  std::vector<SymbolTable> tables;
  for (unsigned i = 0; i < 31; ++i) {
    const std::uint32_t deviation = (eighths[3 * i % 8] << (3 * i / 8)) >> 4;
    for (const auto shape : {TableShape::laplace, TableShape::gaussian})
      tables.push_back(SymbolTable::discretised(shape, deviation));
  }
  return TableSet(std::move(tables));
}

std::vector<std::byte> TableSet::serialize() const {
  std::vector<std::byte> bytes{static_cast<std::byte>(tables_.size())};
  for (const auto& table : tables_) table.serialize(bytes);
  return bytes;
}

Result<TableSet> TableSet::parse(std::span<const std::byte>& from) {
  if (from.empty()) return fail(ErrorCode::truncated, "a set of symbol tables ends too early: fetch it again");
  const auto count = std::to_integer<std::size_t>(from[0]);
  if (count == 0 || count >= largest_size)
    return fail(ErrorCode::corrupt, "a set of symbol tables has no or too many tables: fetch it again");
  auto rest = from.subspan(1);
  std::vector<SymbolTable> tables;
  for (std::size_t i = 0; i < count; ++i) {
    auto table = SymbolTable::parse(rest);
    if (!table) return propagate(table);
    tables.push_back(std::move(*table));
  }
  from = rest;
  return TableSet(std::move(tables));
}

}  // namespace krul
