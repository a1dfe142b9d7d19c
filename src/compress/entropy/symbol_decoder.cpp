#include "krul/compress/entropy/symbol_decoder.hpp"

#include <algorithm>

#include "entropy_loops.hpp"
#include "krul/compress/entropy/detail/decode_status.hpp"

namespace krul {
namespace {

std::uint32_t read_state(std::span<const std::byte> bytes, std::size_t index) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = value << 8 | std::to_integer<std::uint32_t>(bytes[4 * index + i]);
  return value;
}

Status damaged() {
  return detail::status_of(detail::DecodeOutcome::bad_symbol);
}

}  // namespace

Result<SymbolDecoder> SymbolDecoder::open(std::span<const std::byte> bytes, SymbolBlock block,
                                          std::span<const std::uint8_t> table_of_column, const TableSet& tables,
                                          InstructionLevel level) {
  auto decoder = open(bytes, block.streams(), tables, level);
  if (!decoder) return decoder;
  if (auto status = decoder->begin_block(block, table_of_column); !status) return propagate(status);
  return decoder;
}

Result<SymbolDecoder> SymbolDecoder::open(std::span<const std::byte> bytes, std::size_t streams, const TableSet& tables,
                                          InstructionLevel level) {
  expects(streams <= SymbolBlock::most_streams, "SymbolDecoder: there are at most 32 streams");
  if (bytes.size() < 4 * streams)
    return fail(ErrorCode::truncated, "coded symbols end before their first word: recompute these rows");
  SymbolDecoder decoder;
  decoder.state_.streams.fill(detail::lowest_state);  // those that do not exist stay as a stream ends
  const std::size_t even = (streams + 1) / 2;
  for (std::size_t i = 0; i < streams; ++i) {
    const std::uint32_t state = read_state(bytes, i);
    if (state < detail::lowest_state) return tl::unexpected(damaged().error());
    decoder.state_.streams[i < even ? i : 16 + i - even] = state;
  }
  decoder.state_.words = bytes.subspan(4 * streams);
  decoder.tables_ = tables.alias_tables();
  decoder.streams_ = streams;
  decoder.loops_ = &detail::entropy_loops(level);
  return decoder;
}

Status SymbolDecoder::begin_block(SymbolBlock block, std::span<const std::uint8_t> table_of_column) {
  expects(table_of_column_.empty() || tokens_ == 0, "SymbolDecoder: columns are left");
  expects(table_of_column.size() == block.columns, "SymbolDecoder: needs an index for each column");
  expects(block.streams() <= streams_, "SymbolDecoder: a block wants more streams than there are");
  for (const std::uint8_t index : table_of_column)
    if (index > tables_.size()) return damaged();
  table_of_column_ = table_of_column;
  tokens_ = block.tokens;
  return {};
}

Status SymbolDecoder::read(std::span<std::int16_t> out) {
  const std::size_t columns = tokens_ == 0 ? 0 : out.size() / tokens_;
  expects(out.size() == columns * tokens_ && columns <= table_of_column_.size(),
          "SymbolDecoder: reads whole columns, and not more than are left");
  bool sound = true;
  for (const std::uint8_t index : table_of_column_.first(columns)) {
    const auto column = out.first(tokens_);
    out = out.subspan(tokens_);
    if (index == 0) {
      std::fill(column.begin(), column.end(), std::int16_t{0});
      continue;
    }
    const auto outcome = loops_->decode_column(state_, tables_[index - 1U], tokens_, column.data());
    if (outcome == detail::DecodeOutcome::truncated) return detail::status_of(detail::DecodeOutcome::truncated);
    sound = sound && outcome == detail::DecodeOutcome::sound;
  }
  if (!sound) return damaged();
  table_of_column_ = table_of_column_.subspan(columns);
  return {};
}

Status SymbolDecoder::finish() const {
  expects(table_of_column_.empty() || tokens_ == 0, "SymbolDecoder: columns are left");
  if (state_.at > state_.size()) return detail::status_of(detail::DecodeOutcome::truncated);
  const auto& streams = state_.streams;
  const bool ends =
      std::all_of(streams.begin(), streams.end(), [](auto state) { return state == detail::lowest_state; });
  if (!ends || !state_.at_end()) return damaged();
  return {};
}

Status decode_symbols(std::span<const std::byte> bytes, SymbolBlock block,
                      std::span<const std::uint8_t> table_of_column, const TableSet& tables,
                      std::span<std::int16_t> out) {
  auto decoder = SymbolDecoder::open(bytes, block, table_of_column, tables);
  if (!decoder) return propagate(decoder);
  expects(out.size() == block.symbols(), "decode_symbols: needs room for the symbols of the block");
  if (auto status = decoder->read(out); !status) return status;
  return decoder->finish();
}

}  // namespace krul
