# cmake -DPROGRAM=... [-DARGUMENTS=...] -DEXPECTED=file -DACTUAL=file -P CompareOutput.cmake: the program must succeed and print the file.
# What it printed is left in ACTUAL: to accept it, copy it over EXPECTED.
execute_process(COMMAND ${PROGRAM} ${ARGUMENTS} OUTPUT_FILE ${ACTUAL} RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${status}; its output is in ${ACTUAL}")
endif()
execute_process(COMMAND ${CMAKE_COMMAND} -E compare_files --ignore-eol ${EXPECTED} ${ACTUAL} RESULT_VARIABLE differs)
if(differs)
  message(FATAL_ERROR "the output differs from what is expected: diff ${EXPECTED} ${ACTUAL}")
endif()
