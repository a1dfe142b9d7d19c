# Files compiled for other instructions than the rest must define no function that another file may share: the linker
# keeps one copy for all, and a processor without these instructions would run it.
#   cmake -DNM=... "-DOBJECTS=a.o;b.o" -P CheckSharesNoCode.cmake
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND ${NM} -C ${object} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  if(symbols MATCHES "[^\n]* [WVu] [^\n]*")
    message(FATAL_ERROR "${object} defines what others may share: ${CMAKE_MATCH_0}")
  endif()
endforeach()
