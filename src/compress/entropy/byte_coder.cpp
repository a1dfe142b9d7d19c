#include "krul/compress/entropy/byte_coder.hpp"

#include <algorithm>
#include <array>
#include <numeric>

#include "krul/compress/entropy/symbol_decoder.hpp"
#include "krul/compress/entropy/symbol_encoder.hpp"

namespace krul {
namespace {

enum Form : unsigned char { raw, ranked };

constexpr std::size_t whole_column = 256;
constexpr int first_rank = -static_cast<int>(SymbolTable::largest_reach);

/// Whole columns for the ranks; what is too much is rank 0. Few bytes are one short column, with fewer streams.
SymbolBlock bytes_block(std::size_t count) {
  const std::size_t width = std::min(count, whole_column);
  return {width == 0 ? 0 : (count + width - 1) / width, width};
}

}  // namespace

std::vector<std::byte> encode_bytes(std::span<const std::byte> bytes) {
  std::array<std::uint64_t, 256> seen{};
  for (const std::byte byte : bytes) ++seen[std::to_integer<std::size_t>(byte)];
  std::array<std::uint8_t, 256> order;
  std::iota(order.begin(), order.end(), std::uint8_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return seen[a] > seen[b]; });
  const auto values = static_cast<std::size_t>(256 - std::count(seen.begin(), seen.end(), 0U));

  std::vector<std::byte> coded;
  if (values > 0) {
    std::vector<std::uint64_t> counts;
    std::array<std::int16_t, 256> symbol_of{};
    for (std::size_t rank = 0; rank < values; ++rank) {
      counts.push_back(seen[order[rank]]);
      symbol_of[order[rank]] = static_cast<std::int16_t>(first_rank + static_cast<int>(rank));
    }
    std::vector<std::uint64_t> direct(2 * SymbolTable::largest_reach + 2);
    for (std::size_t rank = 0; rank < values; ++rank) direct[std::min(rank, direct.size() - 1)] += counts[rank];
    const auto table = SymbolTable::from_counts(direct);
    coded = {std::byte{ranked}, static_cast<std::byte>(values - 1)};
    for (std::size_t rank = 0; rank < values; ++rank) coded.push_back(std::byte{order[rank]});
    table.serialize(coded);
    const SymbolBlock block = bytes_block(bytes.size());
    std::vector<std::int16_t> symbols(block.symbols(), first_rank);
    for (std::size_t i = 0; i < bytes.size(); ++i) symbols[i] = symbol_of[std::to_integer<std::size_t>(bytes[i])];
    const auto stream =
        SymbolEncoder(TableSet({table})).encode(block, symbols, std::vector<std::uint8_t>(block.columns, 1));
    coded.insert(coded.end(), stream.begin(), stream.end());
  }
  if (values == 0 || coded.size() > bytes.size()) {
    coded.assign(1, std::byte{raw});
    coded.insert(coded.end(), bytes.begin(), bytes.end());
  }
  return coded;
}

Status decode_bytes(std::span<const std::byte> coded, std::span<std::byte> out) {
  const auto damaged = [] { return fail(ErrorCode::corrupt, "coded bytes are damaged: recompute these rows"); };
  const auto too_few = [] { return fail(ErrorCode::truncated, "coded bytes end too early: recompute these rows"); };
  if (coded.empty()) return too_few();
  const auto form = std::to_integer<unsigned>(coded[0]);
  coded = coded.subspan(1);
  if (form == raw) {
    if (coded.size() != out.size()) return coded.size() < out.size() ? Status(too_few()) : Status(damaged());
    std::copy(coded.begin(), coded.end(), out.begin());
    return {};
  }
  if (form != ranked || out.empty()) return damaged();
  if (coded.empty()) return too_few();
  const std::size_t values = std::to_integer<std::size_t>(coded[0]) + 1;
  if (coded.size() < 1 + values) return too_few();
  const auto byte_of = coded.subspan(1, values);
  coded = coded.subspan(1 + values);
  const auto table = SymbolTable::parse(coded);
  if (!table) return propagate(table);
  const TableSet tables({*table});

  const SymbolBlock block = bytes_block(out.size());
  std::array<std::int16_t, whole_column> column;
  const auto symbols = std::span(column).first(block.tokens);
  const std::vector<std::uint8_t> indices(block.columns, 1);
  auto decoder = SymbolDecoder::open(coded, block, indices, tables);
  if (!decoder) return propagate(decoder);
  while (!out.empty()) {
    if (auto status = decoder->read(symbols); !status) return status;
    const auto to = out.first(std::min(out.size(), symbols.size()));
    for (std::size_t i = 0; i < to.size(); ++i) {
      const int rank = symbols[i] - first_rank;
      if (rank < 0 || rank >= static_cast<int>(values)) return damaged();
      to[i] = byte_of[static_cast<std::size_t>(rank)];
    }
    out = out.subspan(to.size());
  }
  return decoder->finish();
}

}  // namespace krul
