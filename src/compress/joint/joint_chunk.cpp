#include "krul/compress/joint/joint_chunk.hpp"

#include <utility>

#include "chunk_header.hpp"
#include "columns.hpp"
#include "krul/compress/entropy/symbol_block.hpp"
#include "krul/compress/entropy/table_choice.hpp"

namespace krul {

Result<JointChunk> JointChunk::read(const Profile& profile, std::size_t group, const Geometry& geometry,
                                    std::span<const std::byte> chunk, TokenRange rows) {
  expects(group < profile.data().groups.size() && !rows.empty(), "JointChunk: no such group, or no rows");
  const std::size_t apart = rows.begin == 0 ? 1 : 0;
  auto header = detail::read_chunk_header(profile, group, geometry, chunk, {apart, rows.size() - apart});
  if (!header) return propagate(header);
  detail::CodingOrder order(header->step, header->classes, rows.size() - apart);

  JointChunk read;
  read.rows = rows.size() - apart;
  read.has_first_row = apart > 0;
  read.first_row = std::move(header->first_row);
  std::array<std::vector<detail::Columns>, 2> columns;
  std::vector<std::uint8_t> expected;
  for (std::size_t side = 0; side < 2; ++side) {
    const Profile::Tensor& tensor = side == 0 ? profile.keys(group) : profile.values(group);
    for (const auto& run : order.runs)
      columns[side].push_back(detail::columns_at(tensor, header->step, run, order.runs.front()));
    const auto& first = columns[side].front().expected;
    expected.insert(expected.end(), first.begin(), first.end());
  }
  std::vector<std::uint8_t> chosen(expected.size());
  if (auto status = decode_tables(header->tables, expected, profile.tables().size(), chosen); !status)
    return propagate(status);
  for (std::size_t side = 0; side < 2; ++side)
    for (std::size_t i = 0; i < order.runs.size(); ++i) {
      const auto& run = order.runs[i];
      const detail::Columns& here = columns[side][i];
      Run& to = read.runs[side].emplace_back(
          Run{.first = run.first, .count = run.count, .columns = here.count, .wide = here.wide});
      std::int32_t next = 0;
      for (const char coded : here.coded) to.symbol_of.push_back(coded != 0 ? next++ : -1);
      const auto of_side = std::span(chosen).subspan(side == 0 ? 0 : columns[0].front().expected.size());
      to.tables = detail::tables_at(here.places, of_side, order.table_shift(run), profile.tables().size());
    }
  for (const std::uint32_t token : order.tokens) read.tokens.push_back(token + static_cast<std::uint32_t>(apart));
  read.steps = std::move(order.steps);
  read.streams = SymbolBlock{expected.size(), order.runs.front().count}.streams();
  read.symbols = header->symbols;
  return read;
}

}  // namespace krul
