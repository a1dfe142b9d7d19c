#include "krul/compress/entropy/symbol_encoder.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>

namespace krul {
namespace {

constexpr std::uint32_t lowest_state = 1U << 16;
// More than a column of 2^16 symbols takes with any table: below 44 bits a symbol.
constexpr std::uint32_t out_of_reach = 0xf0000000U;
static_assert(out_of_reach > std::uint64_t{65536} * 44 * SymbolTable::cost_unit);

// What frequencies are inverted to: a multiplication in place of a division.
constexpr unsigned inverse_bits = 64 - 18;

/// Words, written from the last to the first.
class BackwardWords {
 public:
  explicit BackwardWords(std::size_t room) { grow(room); }

  /// Room for `words` more ones.
  void reserve(std::size_t words) {
    if (static_cast<std::size_t>(first_ - room_.get()) < words) grow(2 * size_ + words);
  }
  /// Takes the low word off a state that would not fit after a push that multiplies it by 2^32 / limit.
  std::uint32_t lower(std::uint32_t state, std::uint64_t limit) noexcept {
    const bool full = state >= limit;
    first_[-1] = static_cast<std::uint16_t>(state);
    first_ -= full;
    return state >> (full ? 16 : 0);
  }
  [[nodiscard]] std::span<const std::uint16_t> words() const noexcept {
    return {first_, static_cast<std::size_t>(room_.get() + size_ - first_)};
  }

 private:
  void grow(std::size_t size) {
    auto room = std::make_unique_for_overwrite<std::uint16_t[]>(size);
    const auto used = room_ ? words() : std::span<const std::uint16_t>{};
    std::uint16_t* first = room.get() + size - used.size();
    std::copy(used.begin(), used.end(), first);
    room_ = std::move(room);
    size_ = size;
    first_ = first;
  }

  std::unique_ptr<std::uint16_t[]> room_;
  std::size_t size_ = 0;
  std::uint16_t* first_ = nullptr;
};

/// Pushes `count` bits as they are.
void push_bits(std::uint32_t& state, std::uint32_t bits, unsigned count, BackwardWords& words) noexcept {
  state = words.lower(state, std::uint64_t{1} << (32 - count)) << count | bits;
}

/// Calls visit(stream, token) for the tokens of a step, in the order of streams or backwards.
template <class Visit>
void backwards(std::size_t tokens, Visit&& visit) {
  for (std::size_t i = tokens / 2; i-- > 0;) visit(16 + i, 2 * i + 1);
  for (std::size_t i = (tokens + 1) / 2; i-- > 0;) visit(i, 2 * i);
}

}  // namespace

SymbolEncoder::SymbolEncoder(const TableSet& set) : dense_costs_((2 * dense + 1) * row) {
  tables_.reserve(set.size() - 1);
  for (std::size_t index = 1; index < set.size(); ++index) {
    const auto& symbols = set.table(index);
    const auto& alias = set.alias_tables()[index - 1];
    Table table{symbols, {}, {}, std::vector<std::uint16_t>(SymbolTable::total)};
    std::uint16_t sum = 0;
    for (const std::uint16_t frequency : symbols.frequencies()) {
      table.begin.push_back(sum);
      table.inverse.push_back((std::uint64_t{1} << inverse_bits) / frequency);
      sum = static_cast<std::uint16_t>(sum + frequency);
    }
    constexpr unsigned bits = detail::AliasTable::bucket_bits;
    for (unsigned slot = 0; slot < SymbolTable::total; ++slot) {
      const unsigned b = slot >> bits;
      const bool own = slot < alias.divider[b];
      const auto offset = static_cast<std::uint16_t>(slot - (own ? b << bits : alias.bias[b]));
      table.slots[table.begin[own ? b : alias.alias[b]] + std::size_t{offset}] = static_cast<std::uint16_t>(slot);
    }
    for (int symbol = -dense; symbol < dense; ++symbol)
      dense_costs_[static_cast<std::size_t>(symbol + dense) * row + index] =
          symbols.cost(static_cast<std::int16_t>(symbol));
    tables_.push_back(std::move(table));
  }
}

std::vector<std::byte> SymbolEncoder::encode(SymbolBlock block, std::span<const std::int16_t> symbols,
                                             std::span<const std::uint8_t> table_of_column) const {
  expects(symbols.size() == block.symbols() && table_of_column.size() == block.columns,
          "SymbolEncoder: needs the symbols of the block and an index for each column");
  constexpr std::size_t step = SymbolBlock::most_streams;
  std::array<std::uint32_t, step> streams;
  streams.fill(lowest_state);
  BackwardWords words(4 * step + block.symbols() / 8);
  for (std::size_t column = block.columns; column-- > 0;) {
    const auto from = symbols.subspan(column * block.tokens, block.tokens);
    const std::size_t index = table_of_column[column];
    expects(index < size(), "SymbolEncoder: no table of that index");
    if (index == 0) {
      expects(std::all_of(from.begin(), from.end(), [](auto symbol) { return symbol == 0; }),
              "SymbolEncoder: a column of index 0 is not zero");
      continue;
    }
    const Table& table = tables_[index - 1];
    const auto frequencies = table.symbols.frequencies();
    const unsigned shift = table.symbols.shift();
    const int reach = static_cast<int>(table.symbols.reach());
    for (std::size_t begin = (block.tokens + step - 1) / step * step; begin > 0;) {
      begin -= step;
      const auto here = from.subspan(begin, std::min(step, from.size() - begin));
      words.reserve(4 * step);
      std::array<std::uint8_t, step> place;
      bool escapes = false;
      for (std::size_t t = 0; t < here.size(); ++t) {
        const unsigned shifted = static_cast<unsigned>((here[t] >> shift) + reach);
        const unsigned escape = static_cast<unsigned>(2 * reach + 1);
        place[t] = static_cast<std::uint8_t>(std::min(shifted, escape));
        escapes |= shifted >= escape;
      }
      if (escapes)
        backwards(here.size(), [&](std::size_t stream, std::size_t t) {
          if (place[t] != 2 * reach + 1) return;
          const int q = here[t] >> shift;
          const auto above = static_cast<std::uint32_t>(2 * (std::abs(q) - reach - 1) + (q < 0 ? 1 : 0) + 1);
          const auto bits = static_cast<unsigned>(std::bit_width(above) - 1);
          push_bits(streams[stream], above - (1U << bits), bits, words);
          push_bits(streams[stream], bits, 4, words);
        });
      if (shift > 0)
        backwards(here.size(), [&](std::size_t stream, std::size_t t) {
          push_bits(streams[stream], static_cast<std::uint32_t>(here[t]) & ((1U << shift) - 1), shift, words);
        });
      backwards(here.size(), [&](std::size_t stream, std::size_t t) {
        const std::uint32_t frequency = frequencies[place[t]];
        const std::uint32_t state = words.lower(streams[stream], std::uint64_t{frequency} << 18);
        // state < frequency * 2^18, so the product fits, and is less than one too small for a quotient below 2^18.
        auto quotient = static_cast<std::uint32_t>(state * table.inverse[place[t]] >> inverse_bits);
        std::uint32_t rest = state - quotient * frequency;
        const bool more = rest >= frequency;
        quotient += more;
        rest -= more ? frequency : 0;
        streams[stream] = quotient << SymbolTable::precision | table.slots[table.begin[place[t]] + rest];
      });
    }
  }
  std::vector<std::byte> bytes;
  if (block.symbols() == 0) return bytes;
  bytes.resize(4 * block.streams() + 2 * words.words().size());
  std::byte* to = bytes.data();
  const auto put = [&](std::uint32_t value, unsigned count) {
    for (unsigned i = 0; i < count; ++i) *to++ = static_cast<std::byte>(value >> (8 * i));
  };
  const std::size_t even = (block.streams() + 1) / 2;
  for (std::size_t i = 0; i < even; ++i) put(streams[i], 4);
  for (std::size_t i = 0; i < block.streams() - even; ++i) put(streams[16 + i], 4);
  for (const std::uint16_t word : words.words()) put(word, 2);
  return bytes;
}

void SymbolEncoder::costs(std::span<const std::int16_t> column, std::span<std::uint32_t> costs) const {
  expects(column.size() <= 65536 && costs.size() == size(),
          "SymbolEncoder: needs a column of at most 2^16 symbols and room for a cost of each index");
  // All indices at once, by the compilers' vector extension: their sums stay in registers.
  using Costs [[gnu::vector_size(64)]] = std::uint32_t;
  constexpr std::size_t vectors = row * sizeof(std::uint32_t) / sizeof(Costs);
  std::array<Costs, vectors> sums{};
  bool far = false;
  for (const std::int16_t symbol : column) {
    const bool at_hand = symbol >= -dense && symbol < dense;
    far |= !at_hand;
    const auto* of_symbol = &dense_costs_[static_cast<std::size_t>(at_hand ? symbol + dense : 2 * dense) * row];
    for (std::size_t i = 0; i < vectors; ++i) {
      Costs part;
      std::memcpy(&part, of_symbol + i * (row / vectors), sizeof part);
      sums[i] += part;
    }
  }
  std::memcpy(costs.data(), sums.data(), costs.size_bytes());
  if (far)
    for (const std::int16_t symbol : column)
      if (symbol < -dense || symbol >= dense)
        for (std::size_t i = 0; i < tables_.size(); ++i) costs[i + 1] += tables_[i].symbols.cost(symbol);
  const bool zeros = std::all_of(column.begin(), column.end(), [](auto symbol) { return symbol == 0; });
  costs[0] = zeros ? 0 : out_of_reach;
}

std::uint8_t SymbolEncoder::best_table(std::span<const std::int16_t> column) const {
  std::array<std::uint32_t, row> sums;
  const auto of_index = std::span(sums).first(size());
  costs(column, of_index);
  return static_cast<std::uint8_t>(std::min_element(of_index.begin(), of_index.end()) - of_index.begin());
}

}  // namespace krul
