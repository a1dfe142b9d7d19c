#pragma once

#include "tool.hpp"

namespace krul::cli {

// Each adds one verb to the program; the verb runs when CLI11 calls it back.
void add_chat(CLI::App& program, Tool& tool);
void add_generate(CLI::App& program, Tool& tool);
void add_score(CLI::App& program, Tool& tool);
void add_calibrate(CLI::App& program, Tool& tool);
void add_evaluate(CLI::App& program, Tool& tool);
void add_bench(CLI::App& program, Tool& tool);
void add_demo(CLI::App& program, Tool& tool);
void add_simulate(CLI::App& program, Tool& tool);
void add_saved(CLI::App& program, Tool& tool);  ///< list, inspect, verify, erase
void add_show(CLI::App& program, Tool& tool);
void add_housekeeping(CLI::App& program, Tool& tool);  ///< fork, copy, gc
void add_strategies(CLI::App& program, Tool& tool);

}  // namespace krul::cli
