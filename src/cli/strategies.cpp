#include <cstdio>
#include <memory>

#include "json_table.hpp"
#include "krul/strategy/catalogue.hpp"
#include "tool.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

void list_strategies(const Tool& tool) {
  Json rows = Json::array();
  for (const auto& [strategy, meaning] : strategy::catalogue()) {
    const Needs needs = strategy.needs();
    Json codings = Json::array();
    for (const SavePlan& coding : needs.codings) codings.push_back(coding.coding.name());
    rows.push_back({{"name", strategy.name()},
                    {"meaning", meaning},
                    {"observes_attention", needs.attention},
                    {"plans_for_costs", needs.costs},
                    {"codes_by_profile", needs.profile_is_missing},
                    {"codings_without_profile", codings}});
  }
  if (tool.json) return tool.print({{"strategies", rows}});
  std::printf("%s", table_text(rows, {JsonColumn::text("name", "strategy"),
                                      JsonColumn::text("meaning", "how it stores and restores a conversation")})
                        .c_str());
}

}  // namespace

void add_strategies(CLI::App& program, Tool& tool) {
  auto* verb = program.add_subcommand("strategies", "the names that --strategy and --strategies take");
  verb->callback([&tool] { list_strategies(tool); });
}

}  // namespace krul::cli
